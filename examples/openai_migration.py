"""Code written for OpenAI's fine-tuning service, and what of it changes: two lines.

    tunefork serve --map gpt-4o-mini=tiny
    python examples/openai_migration.py train.jsonl --question "…"

The client is OpenAI's own, unmodified.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from openai import OpenAI

# 1. Where the service is. It was: OpenAI()
SERVICE = {"base_url": "http://127.0.0.1:8000/v1", "api_key": "not-needed"}
# 2. What the base is called. With `--map gpt-4o-mini=tiny` not even this changes.
BASE = "gpt-4o-mini"

_OVER = ("succeeded", "failed", "cancelled")


def tune(client: OpenAI, training: Path, base: str, n_epochs: int | None) -> str:
    """Upload a file, train on it, tell what happens, and return the new model's name."""
    file = client.files.create(file=training, purpose="fine-tune")
    client.files.wait_for_processing(file.id)
    job = client.fine_tuning.jobs.create(
        model=base,
        training_file=file.id,
        suffix="migrated",
        seed=42,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": n_epochs or "auto"}},
        },
    )
    seen: set[str] = set()
    while True:
        job = client.fine_tuning.jobs.retrieve(job.id)
        for event in reversed(client.fine_tuning.jobs.list_events(job.id, limit=100).data):
            if event.id not in seen:
                seen.add(event.id)
                print(f"{job.status:17} {event.message}")
        if job.status in _OVER:
            break
        time.sleep(0.5)
    if job.fine_tuned_model is None:
        raise SystemExit(f"the job {job.status}: {job.error and job.error.message}")
    for checkpoint in client.fine_tuning.jobs.checkpoints.list(job.id):
        print("checkpoint", checkpoint.fine_tuned_model_checkpoint)
    print(client.files.content(job.result_files[0]).read().decode()[:200])
    return job.fine_tuned_model


def ask(client: OpenAI, model: str, question: str) -> None:
    """Ask a model, and show the answer as it comes."""
    stream = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_completion_tokens=100,
        stream=True,
    )
    for chunk in stream:
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


def main() -> None:
    """Do what a user of the service does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("training", type=Path)
    parser.add_argument("--question", default="So what does your cat do all day?")
    parser.add_argument("--base-url", default=SERVICE["base_url"])
    parser.add_argument("--base", default=BASE)
    parser.add_argument("--epochs", type=int)
    given = parser.parse_args()
    with OpenAI(base_url=given.base_url, api_key=SERVICE["api_key"]) as client:
        model = tune(client, given.training, given.base, given.epochs)
        print(model)
        ask(client, model, given.question)


if __name__ == "__main__":
    main()
