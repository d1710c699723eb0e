"""One module for each data set or family; `load` is named in its catalogue entry."""
