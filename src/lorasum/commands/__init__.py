"""The verbs: one verb, one file. Each takes a Config, returns a record of results/ and prints nothing."""
