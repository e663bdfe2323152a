"""What only the demo needs: its report."""
