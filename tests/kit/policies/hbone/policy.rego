package picket.authz

default allow := false

default egress := false

allow if {
	input.caller.path == "/ns/shop/sa/cart"
	input.request.protocol == "http"
	input.request.parsed_path[0] != "refused"
}

allow if {
	input.caller.path == "/ns/shop/sa/cart"
	input.request.protocol == "tcp"
	input.target.port == 8081
}

egress if input.caller.path == "/ns/shop/sa/web"
