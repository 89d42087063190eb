"""What has to hold between the parts of a contract, a batch, a payload or a plan: the kernel's data, judged when asked.

The data types themselves are in ``core``; their ``validate`` methods lead here.
"""
