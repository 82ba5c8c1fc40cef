"""Ray: the cluster, the workers and what they tell the driver. The only folder that imports ray."""
