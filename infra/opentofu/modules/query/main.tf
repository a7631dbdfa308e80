# Trino over the lake: a coordinator that plans, workers that scan. It reads silver and gold and writes nothing.

locals {
  port = 8080
  glue = "arn:aws:glue:${var.region}:${var.account_id}"
  lake = "${var.lake.bucket_arn}/${var.lake.prefix}"

  nodes = {
    coordinator = { size = var.coordinator, count = 1 }
    worker      = { size = var.worker, count = var.workers }
  }

  environment = {
    AWS_REGION          = var.region
    TRINO_S3_PATH_STYLE = "false"
    TRINO_PORT          = tostring(local.port)
    TRINO_DISCOVERY_URI = "http://trino.${var.namespace}:${local.port}"
  }
}

resource "aws_iam_role" "trino" {
  name = "${var.name}-trino"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = var.account_id } }
    }]
  })
}

resource "aws_iam_role_policy" "trino" {
  name = "read"
  role = aws_iam_role.trino.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "ListLake"
        Effect   = "Allow"
        Action   = ["s3:ListBucket"]
        Resource = [var.lake.bucket_arn]
      },
      {
        Sid      = "ReadTables"
        Effect   = "Allow"
        Action   = ["s3:GetObject"]
        Resource = [for zone in ["silver", "gold"] : "${local.lake}/${zone}/*"]
      },
      {
        Sid      = "ReadRows"
        Effect   = "Allow"
        Action   = ["kms:Decrypt"]
        Resource = [var.lake.kms_key_arn]
      },
      {
        Sid    = "ReadCatalog"
        Effect = "Allow"
        Action = [
          "glue:BatchGetPartition", "glue:GetDatabase", "glue:GetDatabases", "glue:GetPartition", "glue:GetPartitions",
          "glue:GetTable", "glue:GetTables",
        ]
        Resource = [
          "${local.glue}:catalog",
          "${local.glue}:database/default", # Trino asks whether it is there
          "${local.glue}:database/${var.glue_prefix}_*",
          "${local.glue}:table/${var.glue_prefix}_*/*",
        ]
      },
    ]
  })
}

resource "aws_security_group" "trino" {
  name        = "${var.name}-trino"
  description = "Trino"
  vpc_id      = var.network.vpc_id
  tags        = { Name = "${var.name}-trino" }
}

resource "aws_vpc_security_group_ingress_rule" "client" {
  for_each                     = merge(var.client_groups, { trino = aws_security_group.trino.id })
  security_group_id            = aws_security_group.trino.id
  referenced_security_group_id = each.value
  description                  = "From ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

resource "aws_vpc_security_group_egress_rule" "client" {
  for_each                     = merge(var.client_groups, { trino = aws_security_group.trino.id })
  security_group_id            = each.value
  referenced_security_group_id = aws_security_group.trino.id
  description                  = "To Trino"
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.trino.id
  description       = "S3 and Glue"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_service_discovery_service" "trino" {
  name = "trino"

  dns_config {
    namespace_id = var.namespace_id

    dns_records {
      type = "A"
      ttl  = 10
    }
  }
}

resource "aws_ecs_task_definition" "node" {
  for_each                 = local.nodes
  family                   = "${var.name}-trino-${each.key}"
  cpu                      = each.value.size.cpu
  memory                   = each.value.size.memory
  network_mode             = "awsvpc"
  requires_compatibilities = ["FARGATE"]
  execution_role_arn       = var.execution_role_arn
  task_role_arn            = aws_iam_role.trino.arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64"
  }

  container_definitions = jsonencode([{
    name            = each.key
    image           = var.image
    essential       = true
    linuxParameters = { initProcessEnabled = true, capabilities = { drop = ["ALL"] } }
    portMappings    = [{ containerPort = local.port, hostPort = local.port, protocol = "tcp" }]
    environment = [
      for name, value in merge(local.environment, { TRINO_COORDINATOR = tostring(each.key == "coordinator") }) :
      { name = name, value = value }
    ]
    healthCheck = {
      command     = ["CMD-SHELL", "curl --fail --silent http://127.0.0.1:${local.port}/v1/info | grep -q '\"starting\":false'"]
      interval    = 30
      timeout     = 10
      retries     = 3
      startPeriod = 120
    }
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = var.log_group.name
        awslogs-region        = var.region
        awslogs-stream-prefix = "trino"
      }
    }
  }])
}

resource "aws_ecs_service" "node" {
  for_each        = local.nodes
  name            = "${var.name}-trino-${each.key}"
  cluster         = var.cluster_arn
  task_definition = aws_ecs_task_definition.node[each.key].arn
  desired_count   = each.value.count
  launch_type     = "FARGATE"
  propagate_tags  = "SERVICE"

  deployment_minimum_healthy_percent = each.key == "coordinator" ? 0 : 50 # workers follow one coordinator
  deployment_maximum_percent         = each.key == "coordinator" ? 100 : 200

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.network.private_subnets
    security_groups  = [aws_security_group.trino.id]
    assign_public_ip = false
  }

  dynamic "service_registries" {
    for_each = each.key == "coordinator" ? [aws_service_discovery_service.trino.arn] : []

    content {
      registry_arn = service_registries.value
    }
  }

  depends_on = [aws_iam_role_policy.trino]
}
