"""Recipe for the tiny base model: its data, its pre-training and its measure."""
