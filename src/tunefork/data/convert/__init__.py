"""Write the rows of any readable file in another format. Entry point: `run.convert`."""
