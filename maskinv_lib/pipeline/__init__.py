"""ONE run: its faces, its network, its training, its evaluation, and the files that these leave.

What belongs here: what joins the packages before it for a single run. What does not: whatever compares several runs
(``reports``). To add a kind of run, teach ``train`` how it is made and ``models`` how its templates are computed.
"""
