# TANDEM is the server's address, KEY one of its keys. Needs curl and jq.
api() { curl -sS --fail-with-body -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" "$@"; }

# An agent: where the audio of its calls goes, and in which dialect.
AGENT=$(api "$TANDEM/v2/agent" -d '{
  "agent_config": {"agent_name": "Support"},
  "websocket": {"url": "ws://127.0.0.1:9000/{execution_id}", "dialect": "asterisk"}
}' | jq -r .agent_id)

# A trunk: where its calls come from, where calls by it go.
TRUNK=$(api "$TANDEM/sip-trunks/trunks" -d '{
  "name": "carrier", "provider": "mine", "auth_type": "ip-based", "inbound_enabled": true,
  "gateways": [{"gateway_address": "192.0.2.10"}],
  "ip_identifiers": [{"ip_address": "192.0.2.0/28"}]
}' | jq -r .id)

# A number on it, and the agent that answers.
NUMBER=$(api "$TANDEM/sip-trunks/trunks/$TRUNK/numbers" -d '{"phone_number": "+918047111111"}' | jq -r .id)
api "$TANDEM/inbound/setup" -d "{\"agent_id\": \"$AGENT\", \"phone_number_id\": \"$NUMBER\"}"

# The trunk as it stands.
api "$TANDEM/sip-trunks/trunks/$TRUNK"
