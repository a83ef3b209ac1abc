"""The objects of an account: catalog, privileges, DDL, SHOW, stages."""
