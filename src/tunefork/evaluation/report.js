// The filter of the side-by-side table. Without scripts every row is shown.
const section = document.querySelector(".filters");
if (section) {
  const buttons = [...section.querySelectorAll("button")];
  const rows = [...document.querySelectorAll(".side tbody tr")];
  const nothing = document.querySelector(".nothing");
  section.hidden = false;
  section.addEventListener("click", (event) => {
    const pressed = event.target.closest("button");
    if (!pressed) return;
    const wanted = pressed.dataset.show;
    for (const button of buttons) button.setAttribute("aria-pressed", button === pressed);
    for (const row of rows) row.hidden = wanted !== "all" && row.dataset.outcome !== wanted;
    nothing.hidden = rows.some((row) => !row.hidden);
  });
}
