# Dagster on Fargate: services that stay, and a task definition that runs are started from.

locals {
  services = {
    webserver = { group = "ui", count = 1, doubles = true }
    viewer    = { group = "ui", count = var.viewers, doubles = true }
    daemon    = { group = "daemon", count = 1, doubles = false } # two daemons would start every run twice
    code      = { group = "code", count = 1, doubles = true }
  }
  wanted = { for name, service in local.services : name => service if service.count > 0 }
}

resource "aws_ecs_cluster" "this" {
  #checkov:skip=CKV_AWS_65:enabled or enhanced, as the variable that says which is validated

  name = var.cluster_name

  setting {
    name  = "containerInsights"
    value = var.insights
  }
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  cluster_name       = aws_ecs_cluster.this.name
  capacity_providers = ["FARGATE"]

  default_capacity_provider_strategy {
    capacity_provider = "FARGATE"
    weight            = 1
  }
}

resource "aws_service_discovery_private_dns_namespace" "this" {
  name        = "${var.name}.internal"
  description = "Names of services for each other"
  vpc         = var.network.vpc_id
}

resource "aws_service_discovery_service" "code" {
  name = "code"

  dns_config {
    namespace_id = aws_service_discovery_private_dns_namespace.this.id

    dns_records {
      type = "A"
      ttl  = 10
    }
  }
}

resource "aws_ecs_service" "this" {
  for_each        = local.wanted
  name            = "${var.name}-${each.key}"
  cluster         = aws_ecs_cluster.this.arn
  task_definition = aws_ecs_task_definition.this[each.key].arn
  desired_count   = each.value.count
  launch_type     = "FARGATE"
  propagate_tags  = "SERVICE"

  deployment_minimum_healthy_percent = each.value.doubles ? 100 : 0
  deployment_maximum_percent         = each.value.doubles ? 200 : 100
  health_check_grace_period_seconds  = each.value.group == "ui" ? 180 : null

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.network.private_subnets
    security_groups  = [aws_security_group.this[each.value.group].id]
    assign_public_ip = false
  }

  dynamic "load_balancer" {
    for_each = each.value.group == "ui" ? [each.key] : []

    content {
      target_group_arn = aws_lb_target_group.ui[load_balancer.value].arn
      container_name   = load_balancer.value
      container_port   = local.ui_port
    }
  }

  dynamic "service_registries" {
    for_each = each.key == "code" ? [aws_service_discovery_service.code.arn] : []

    content {
      registry_arn = service_registries.value
    }
  }

  depends_on = [aws_lb_listener_rule.ui, aws_iam_role_policy.this]
}
