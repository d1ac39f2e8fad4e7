"""How isogloss behaves as a tracking store and the number of workers grow."""
