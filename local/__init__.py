"""The local organisation: Portcullis's real templates, deployed and running on one machine."""
