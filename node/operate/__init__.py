"""What the administrator uses: status, explanation, checks, retention."""
