"""What dendrite's tables say of media: profiles, room state, account data, messages, and what holds point at.

Each source is read whole into a copy, from whichever database it lies in. Here it is only read what mentions a medium;
what follows from it is decided by those who ask.
"""
