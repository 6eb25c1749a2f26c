"""Pictures and pages that tell what a run found."""
