"""What a build found, as a terminal table, JSON and a single HTML file."""
