# The UI behind a load balancer without a public address: TLS ends here, the token is asked for by lakehouse's guard.

locals {
  all_webservers = {
    webserver = { host = var.ui.name, token = "ui_token", options = tolist([]), count = 1 }
    viewer    = { host = var.ui.viewer_name, token = "viewer_token", options = tolist(["--read-only"]), count = var.viewers }
  }
  webservers = { for name, server in local.all_webservers : name => server if server.count > 0 }
}

resource "aws_lb" "ui" {
  #checkov:skip=CKV_AWS_150:protected where the environment does not allow deletion

  name                       = var.name
  internal                   = true
  load_balancer_type         = "application"
  subnets                    = var.network.private_subnets
  security_groups            = [aws_security_group.this["balancer"].id]
  drop_invalid_header_fields = true
  desync_mitigation_mode     = "strictest"
  enable_deletion_protection = !var.allow_deletion
  idle_timeout               = 120 # the UI's WebSocket is silent between events

  access_logs {
    bucket  = var.access_log_bucket
    prefix  = "ui"
    enabled = true
  }
}

resource "aws_lb_target_group" "ui" {
  #checkov:skip=CKV_AWS_378:TLS ends at the load balancer; behind it only its security group reaches the webservers

  for_each             = local.webservers
  name                 = "${var.name}-${each.key}"
  vpc_id               = var.network.vpc_id
  port                 = local.ui_port
  protocol             = "HTTP"
  target_type          = "ip"
  deregistration_delay = 30

  # The check asks under an address, not under the UI's name, so the guard refuses it: a refusal says that the guard
  # stands, and a page would say that it does not. Whether Dagster answers, the container's own check asks.
  health_check {
    path                = "/"
    matcher             = "403"
    interval            = 15
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.ui.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-Res-2021-06"
  certificate_arn   = var.ui.certificate_arn

  default_action {
    type = "fixed-response"

    fixed_response {
      content_type = "text/plain"
      message_body = "No UI has this name."
      status_code  = "404"
    }
  }
}

resource "aws_lb_listener_rule" "ui" {
  for_each     = local.webservers
  listener_arn = aws_lb_listener.https.arn

  condition {
    host_header {
      values = [each.value.host]
    }
  }

  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.ui[each.key].arn
  }
}
