// The filter of the side-by-side table. Without scripts every row is shown.
const section = document.querySelector(".filters");
if (section) {
  const buttons = [...section.querySelectorAll("button")];
  const search = section.querySelector("input");
  const rows = [...document.querySelectorAll(".side tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const nothing = document.querySelector(".nothing");
  let wanted = "all";
  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row, at) => {
      const fits = wanted === "all" || row.dataset.outcome === wanted;
      row.hidden = !(fits && words.every((word) => texts[at].includes(word)));
    });
    nothing.hidden = rows.some((row) => !row.hidden);
  };
  section.hidden = false;
  search.addEventListener("input", show);
  section.addEventListener("click", (event) => {
    const pressed = event.target.closest("button");
    if (!pressed) return;
    wanted = pressed.dataset.show;
    for (const button of buttons) button.setAttribute("aria-pressed", button === pressed);
    show();
  });
}
