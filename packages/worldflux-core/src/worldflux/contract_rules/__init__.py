"""What has to hold between the parts of a contract, an action's spec, a batch, an output or a plan: judged when asked.

The data types themselves are in ``core``, whose ``validate`` methods lead here.
"""
