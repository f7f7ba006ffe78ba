-- What an agent's program handed to the agent, and how the agent came to hear of it.

ALTER TABLE delivery ADD COLUMN handed_by TEXT;
ALTER TABLE topic_member ADD COLUMN handed_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE topic_member ADD COLUMN handed_by TEXT;
