"""The Salt extension, as an installed package: Salt finds `modules/` and `states/` by the entry point `salt.loader`.

Those are links to `salt/_modules` and `salt/_states`, which a master serves to its minions. Nothing here imports Salt.
"""
