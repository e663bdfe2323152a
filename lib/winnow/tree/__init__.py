"""The item tree: a catalogue as categories in categories, small enough to read at every step."""
