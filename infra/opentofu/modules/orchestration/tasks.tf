# One image, five ways to start it. Each task is given what it needs to know, and secrets by injection alone.

locals {
  run_family = "${var.name}-run"
  home       = "/srv/dagster"
  writable   = { tmp = "/tmp", home = local.home } # volumes of the image; all else is read only
  workspace  = "/srv/lakehouse/workspace.yaml"
  logged     = ["python", "-m", "lakehouse.ui.process", "json"] # a module of Dagster's, whose log lines are objects

  # The instance's file is written at the start of every task, out of the image's own template: a launcher that says
  # what a run does changes the command and not this.
  entry = ["sh", "-c", "lakehouse instance ecs --home \"$DAGSTER_HOME\" && exec \"$@\"", "task"]

  environment = merge({ for name, value in var.settings : "LAKEHOUSE_${name}" => value }, {
    AWS_REGION                  = var.region
    AWS_DEFAULT_REGION          = var.region
    DAGSTER_CODE_HOST           = "code.${aws_service_discovery_private_dns_namespace.this.name}"
    DAGSTER_COMPUTE_LOGS_BUCKET = var.lake.work_bucket
    DAGSTER_COMPUTE_LOGS_PREFIX = "compute-logs"
    DAGSTER_ECS_CLUSTER         = aws_ecs_cluster.this.name
    DAGSTER_ECS_SECURITY_GROUPS = aws_security_group.this["run"].id
    DAGSTER_ECS_SUBNETS         = join(",", var.network.private_subnets)
    DAGSTER_ECS_TASK_DEFINITION = local.run_family
    DAGSTER_HOME                = local.home
    DAGSTER_POSTGRES_DB         = local.database_name
    DAGSTER_POSTGRES_HOST       = aws_db_instance.dagster.address
    DAGSTER_POSTGRES_USER       = aws_db_instance.dagster.username
    DAGSTER_RUNS_AT_ONCE        = tostring(var.runs_at_once)
    LAKEHOUSE_GLUE_DATABASE     = var.glue_prefix
    LAKEHOUSE_LOG_FORMAT        = "json"
    LAKEHOUSE_MACHINES          = tostring(var.runs_at_once + 1) # runs and the code location ask from one address
    LAKEHOUSE_ROOT              = var.lake.root
    LAKEHOUSE_UI_URL            = "https://${var.ui.name}"
  })

  password = { DAGSTER_POSTGRES_PASSWORD = "${local.database_secret_arn}:password::" }
  alerts   = { LAKEHOUSE_ALERT_URLS = "${var.ui_secret.arn}:alert_urls::" }

  tasks = merge(
    {
      for name, server in local.webservers : name => {
        role    = name == "viewer" ? "viewer" : "control"
        port    = local.ui_port
        secrets = merge(local.password, { LAKEHOUSE_UI_TOKEN = "${var.ui_secret.arn}:${server.token}::" })
        command = concat(
          ["lakehouse", "webserver", "--workspace", local.workspace, "--host", "0.0.0.0"],
          ["--port", tostring(local.ui_port), "--name", server.host], server.options,
        )
        health = ["lakehouse", "healthy", "webserver", "--port", tostring(local.ui_port)]
      }
    },
    {
      daemon = {
        role    = "control"
        port    = null
        secrets = merge(local.password, local.alerts)
        command = concat(local.logged, ["dagster._daemon", "run", "--workspace", local.workspace])
        health  = ["lakehouse", "healthy", "daemon"]
      }
      code = {
        role    = "run"
        port    = local.code_port
        secrets = merge(local.password, local.alerts)
        command = concat(local.logged, [
          "dagster", "api", "grpc", "--host", "0.0.0.0", "--port", tostring(local.code_port),
          "--module-name", "lakehouse.definitions", "--location-name", "lakehouse",
        ])
        health = ["lakehouse", "healthy", "code", "--port", tostring(local.code_port)]
      }
      run = {
        role    = "run"
        port    = null
        secrets = merge(local.password, local.alerts)
        command = ["lakehouse", "doctor"] # the launcher says what else
        health  = null
      }
    },
  )
}

resource "aws_ecs_task_definition" "this" {
  for_each                 = local.tasks
  family                   = "${var.name}-${each.key}"
  cpu                      = var.sizes[each.key].cpu
  memory                   = var.sizes[each.key].memory
  network_mode             = "awsvpc"
  requires_compatibilities = ["FARGATE"]
  execution_role_arn       = aws_iam_role.this["execution"].arn
  task_role_arn            = aws_iam_role.this[each.value.role].arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64"
  }

  dynamic "volume" {
    for_each = local.writable

    content {
      name = volume.key
    }
  }

  container_definitions = jsonencode([merge(
    {
      name                   = each.key
      image                  = var.image
      essential              = true
      user                   = "10001"
      readonlyRootFilesystem = true
      entryPoint             = local.entry
      command                = each.value.command
      stopTimeout            = 120 # a run that is told to end records the cell it is at
      linuxParameters        = { initProcessEnabled = true, capabilities = { drop = ["ALL"] } }
      environment            = [for name, value in local.environment : { name = name, value = value }]
      secrets                = [for name, from in each.value.secrets : { name = name, valueFrom = from }]
      mountPoints = [
        for name, path in local.writable : { sourceVolume = name, containerPath = path, readOnly = false }
      ]
      logConfiguration = {
        logDriver = "awslogs"
        options = {
          awslogs-group         = var.log_groups[each.key].name
          awslogs-region        = var.region
          awslogs-stream-prefix = "lakehouse"
        }
      }
    },
    each.value.port == null ? {} : {
      portMappings = [{ containerPort = each.value.port, hostPort = each.value.port, protocol = "tcp" }]
    },
    each.value.health == null ? {} : {
      healthCheck = {
        command     = concat(["CMD"], each.value.health)
        interval    = 30
        timeout     = 20
        retries     = 3
        startPeriod = 120
      }
    },
  )])
}
