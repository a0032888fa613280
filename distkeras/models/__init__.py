"""Networks: builders by name, and any builder of the user's."""
