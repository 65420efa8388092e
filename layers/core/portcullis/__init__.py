"""Keeps private AWS connectivity compliant across an organisation."""
