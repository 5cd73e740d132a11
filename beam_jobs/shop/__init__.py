"""The generated shop: its products, titles, pictures, catalogue and clicks."""
