# Who reaches whom. A pair that is not listed does not reach each other; nothing is reached from the internet.

locals {
  groups = {
    balancer = "The UI's load balancer"
    ui       = "Webservers"
    daemon   = "Dagster's daemon"
    code     = "The code location"
    run      = "Runs"
    database = "Dagster's Postgres"
  }

  # from, to, port
  reach = [
    ["balancer", "ui", local.ui_port],
    ["ui", "code", local.code_port],
    ["daemon", "code", local.code_port],
    ["ui", "database", local.database_port],
    ["daemon", "database", local.database_port],
    ["code", "database", local.database_port],
    ["run", "database", local.database_port],
  ]
  pairs     = { for pair in local.reach : "${pair[0]}-${pair[1]}" => { from = pair[0], to = pair[1], port = pair[2] } }
  ui_port   = 3000
  code_port = 4000
}

resource "aws_security_group" "this" {
  #checkov:skip=CKV2_AWS_5:each belongs to a service, to runs or to the database, by its key in for_each

  for_each    = local.groups
  name        = "${var.name}-${each.key}"
  description = each.value
  vpc_id      = var.network.vpc_id
  tags        = { Name = "${var.name}-${each.key}" }
}

resource "aws_vpc_security_group_ingress_rule" "pair" {
  for_each                     = local.pairs
  security_group_id            = aws_security_group.this[each.value.to].id
  referenced_security_group_id = aws_security_group.this[each.value.from].id
  description                  = "From ${each.value.from}"
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

resource "aws_vpc_security_group_egress_rule" "pair" {
  for_each                     = local.pairs
  security_group_id            = aws_security_group.this[each.value.from].id
  referenced_security_group_id = aws_security_group.this[each.value.to].id
  description                  = "To ${each.value.to}"
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

resource "aws_vpc_security_group_ingress_rule" "people" {
  for_each          = toset(var.ui.allowed_cidrs)
  security_group_id = aws_security_group.this["balancer"].id
  description       = "People's networks"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

# AWS's services, exchanges' REST APIs, and whom alerts go to: all by HTTPS.
resource "aws_vpc_security_group_egress_rule" "https" {
  for_each          = toset(["ui", "daemon", "code", "run"])
  security_group_id = aws_security_group.this[each.key].id
  description       = "HTTPS"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}
