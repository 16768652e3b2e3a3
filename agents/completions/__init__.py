"""Chat Completions: endpoint.py speaks with one (it alone knows the SDK), through transport.py and gate.py.

shapes.py bodies, replies and what a failed try was · prices.py what tokens cost · weights.py files of local models
"""
