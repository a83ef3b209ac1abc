"""Calls that leave the account: external functions, gateways and the clouds' identities."""
