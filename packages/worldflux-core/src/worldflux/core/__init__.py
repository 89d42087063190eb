"""What a world model is: states, batches, payloads, contracts, configs, components and the model itself.

This package imports nothing else of worldflux. It is the part a third party's family is written against.
"""
