#!/bin/sh
# How many nodes of the whole cluster may be down at once: no more than each index has replicas. Set once, from anywhere;
# it holds for every tool, and can be changed during a roll-out. The locks of the racks need no policy: one node each.
exec distlock --policy --lock-name=elastic_prod --slots=2 --expect=15m
