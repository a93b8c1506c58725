"""What Salt, Ansible and Puppet share: acquire, release, check, in terms of settings. Imports `keeper` and below."""
