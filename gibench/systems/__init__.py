"""Related systems as numbers: pure functions that a suite may call, one file per system, none an attack or a defense.

Each file's first line cites its system. Where only the abstract or others' code could be read, the file says what is
published and what is this project's reading.
"""
