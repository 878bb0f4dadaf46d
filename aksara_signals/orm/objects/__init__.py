"""What users write with: the mixin, managers, query sets, bulk operations, model signals."""
