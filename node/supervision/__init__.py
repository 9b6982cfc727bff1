"""Supervision: restart policy (pure), the trio shell around it, and mailboxes that outlive their readers."""
