"""What others bring, looked at without trusting it: installed distributions, TOML files, texts, names, code.

Nothing here knows what a world model is.
"""
