"""Shared by Salt, Ansible and Puppet: acquire, release and check, by settings. Imports `keeper` and below."""
