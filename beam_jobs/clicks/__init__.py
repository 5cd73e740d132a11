"""Click logs to training triplets: what stands behind `mine_clicks`."""
