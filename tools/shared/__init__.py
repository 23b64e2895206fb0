"""What several commands of tools/ share; the modules in here are not commands themselves."""
