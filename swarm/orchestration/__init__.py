"""What an orchestrator stands on: `swarm/orchestrator.py` puts it together.

intake.py       what is recorded together · outgoing.py what is said next · sparing.py what is not said often
roster.py       which agents are there · link.py how they are reached
lease_keeper.py who has which lease · terms.py until when · receipts.py what agents are told of what they said
merging.py      the bytes of files that two changed
"""
