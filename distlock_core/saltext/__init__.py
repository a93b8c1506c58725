"""The Salt extension, as an installed package: Salt finds these folders by the entry point `salt.loader`.

They are links to those of `salt/`, which a master serves to its minions. Nothing here imports Salt.
"""
