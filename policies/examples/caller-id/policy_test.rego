package picket.authz_test

import data.picket.authz

test_the_web_server_may_call {
	authz.allow with input as {"caller": {"spiffe_id": "spiffe://corp/ns/frontend/sa/web-server"}}
}

test_others_may_not {
	not authz.allow with input as {"caller": {"spiffe_id": "spiffe://corp/ns/frontend/sa/web-server2"}}
	not authz.allow with input as {"caller": {"spiffe_id": "spiffe://other/ns/frontend/sa/web-server"}}
	not authz.allow with input as {"caller": {}}
}
