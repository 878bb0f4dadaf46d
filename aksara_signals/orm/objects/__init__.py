"""The API on models: the mixin, managers, query sets, bulk operations, model signals."""
