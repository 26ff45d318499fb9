"""The shapes that rows can have, one file for each family; `known.FORMATS` lists them in order."""
