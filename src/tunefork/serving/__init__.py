"""Serve models over HTTP in OpenAI's shapes: chat, files, fine-tuning jobs, graders.

`app.create_app` makes the application of a `context.Context`, whose parts the workflow wires.
Nothing here loads a model: what is asked of models goes through `catalogue.Backend`. A job's worker
imports `job_folder` and nothing else, so this file imports nothing.
"""
