"""What readers share: files, columns, actions, the arrival convention, pictures."""
