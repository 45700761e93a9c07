"""The roles of an SQL store: one class for each, over one shared :class:`~paigeant.stores.access.Access`.

A role says which calls run in which transaction. The statements are in the modules of ``paigeant.stores``.
"""
