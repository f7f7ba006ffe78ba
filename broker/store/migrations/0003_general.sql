-- #general for every mesh that lacks it, and every active member in it, the
-- owner as lead. Running this again changes nothing (protocol, section 7).

-- 32 hex digits are a valid id, too: only new ones must sort by time.
INSERT INTO topic (id, mesh_id, name, description, visibility, created_at)
SELECT lower(hex(randomblob(16))), id, 'general',
       'Default mesh-wide channel. Every member can read and post.', 'public', created_at
FROM mesh WHERE true
ON CONFLICT (mesh_id, name) DO NOTHING;

INSERT INTO topic_member (topic_id, member_id, role, joined_at)
SELECT t.id, m.id, iif(m.id = mesh.owner_member_id, 'lead', 'member'), m.joined_at
FROM member m
JOIN mesh ON mesh.id = m.mesh_id
JOIN topic t ON t.mesh_id = m.mesh_id AND t.name = 'general'
WHERE m.revoked_at IS NULL
ON CONFLICT (topic_id, member_id) DO NOTHING;
