"""A running model server under load: requests as many at a time as are asked for, and only the steady part of it counted.

``wire`` knows what is sent and what comes back, ``steady`` which part of a load counts, ``client`` sends, ``load`` measures.
"""
