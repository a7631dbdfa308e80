# Who may do what. Execution starts containers, control starts runs, run does the lake's work, viewer looks.

locals {
  glue      = "arn:aws:glue:${var.region}:${var.account_id}"
  ecs       = "arn:aws:ecs:${var.region}:${var.account_id}"
  lake      = "${var.lake.bucket_arn}/${var.lake.prefix}"
  logs_of   = "${var.lake.work_arn}/compute-logs/*"
  secrets   = [local.database_secret_arn, var.ui_secret.arn]
  roles     = toset(["execution", "control", "run", "viewer"])
  is_a_task = { ArnEquals = { "ecs:cluster" = aws_ecs_cluster.this.arn } }

  reading = [
    {
      Sid      = "ListLake"
      Effect   = "Allow"
      Action   = ["s3:ListBucket"]
      Resource = [var.lake.bucket_arn]
    },
    {
      Sid      = "ReadLake"
      Effect   = "Allow"
      Action   = ["s3:GetObject"]
      Resource = ["${local.lake}/*"]
    },
    {
      Sid      = "ReadWhatRunsPrinted"
      Effect   = "Allow"
      Action   = ["s3:GetObject"]
      Resource = [local.logs_of]
    },
    {
      Sid      = "ReadRows"
      Effect   = "Allow"
      Action   = ["kms:Decrypt"]
      Resource = [var.lake.kms_key_arn]
    },
  ]

  policies = {
    execution = [
      {
        Sid      = "LogInToRegistry"
        Effect   = "Allow"
        Action   = ["ecr:GetAuthorizationToken"]
        Resource = ["*"] # it cannot be limited to a repository
      },
      {
        Sid      = "PullImages"
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Resource = [for name in var.image_repositories : "arn:aws:ecr:${var.region}:${var.account_id}:repository/${name}"]
      },
      {
        Sid      = "WriteLogs"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = [for group in var.log_groups : "${group.arn}:*"]
      },
      {
        Sid      = "InjectSecrets"
        Effect   = "Allow"
        Action   = ["secretsmanager:GetSecretValue"]
        Resource = local.secrets
      },
      {
        Sid      = "OpenSecrets"
        Effect   = "Allow"
        Action   = ["kms:Decrypt"]
        Resource = [var.kms_key_arn, var.ui_secret.kms_key_arn]
      },
    ]

    control = concat(local.reading, [
      {
        Sid       = "StartRuns"
        Effect    = "Allow"
        Action    = ["ecs:RunTask"]
        Resource  = ["${local.ecs}:task-definition/${local.run_family}:*"]
        Condition = local.is_a_task
      },
      {
        # carries no cluster: what it may tag is what it has just started
        Sid       = "TagRuns"
        Effect    = "Allow"
        Action    = ["ecs:TagResource"]
        Resource  = ["${local.ecs}:task/${var.cluster_name}/*"]
        Condition = { StringEquals = { "ecs:CreateAction" = "RunTask" } }
      },
      {
        Sid       = "WatchAndEndRuns"
        Effect    = "Allow"
        Action    = ["ecs:DescribeTasks", "ecs:StopTask"]
        Resource  = ["${local.ecs}:task/${var.cluster_name}/*"]
        Condition = local.is_a_task
      },
      {
        Sid       = "GiveRunsTheirRoles"
        Effect    = "Allow"
        Action    = ["iam:PassRole"]
        Resource  = [aws_iam_role.this["run"].arn, aws_iam_role.this["execution"].arn]
        Condition = { StringEquals = { "iam:PassedToService" = "ecs-tasks.amazonaws.com" } }
      },
      {
        # it cannot be limited to a resource
        Sid      = "Look"
        Effect   = "Allow"
        Action   = ["ecs:DescribeTaskDefinition"]
        Resource = ["*"]
      },
      {
        Sid      = "SayWhyARunEnded"
        Effect   = "Allow"
        Action   = ["logs:GetLogEvents"]
        Resource = ["${var.log_groups["run"].arn}:*"]
      },
    ])

    run = concat(local.reading, [
      {
        Sid      = "WriteLake"
        Effect   = "Allow"
        Action   = ["s3:PutObject", "s3:AbortMultipartUpload"]
        Resource = ["${local.lake}/*"]
      },
      {
        # never landing: what was fetched is the proof of what it was. The bucket keeps deleted versions for a month.
        Sid      = "DeleteCells"
        Effect   = "Allow"
        Action   = ["s3:DeleteObject"]
        Resource = [for folder in ["bronze", "silver", "gold", "quarantine", "ledger"] : "${local.lake}/${folder}/*"]
      },
      {
        Sid      = "KeepWhatRunsPrinted"
        Effect   = "Allow"
        Action   = ["s3:PutObject"]
        Resource = [local.logs_of]
      },
      {
        Sid      = "WriteRows"
        Effect   = "Allow"
        Action   = ["kms:GenerateDataKey"]
        Resource = [var.lake.kms_key_arn]
      },
      {
        # databases are OpenTofu's, and tables are never dropped
        Sid    = "RegisterTables"
        Effect = "Allow"
        Action = [
          "glue:BatchCreatePartition", "glue:BatchDeletePartition", "glue:BatchGetPartition", "glue:BatchUpdatePartition",
          "glue:CreateTable", "glue:GetDatabase", "glue:GetPartition", "glue:GetPartitions", "glue:GetTable",
          "glue:UpdateTable",
        ]
        Resource = [
          "${local.glue}:catalog",
          "${local.glue}:database/${var.glue_prefix}_*",
          "${local.glue}:table/${var.glue_prefix}_*/*",
        ]
      },
    ])

    viewer = local.reading
  }
}

resource "aws_iam_role" "this" {
  for_each = local.roles
  name     = "${var.name}-${each.key}"

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

resource "aws_iam_role_policy" "this" {
  for_each = local.roles
  name     = each.key
  role     = aws_iam_role.this[each.key].id
  policy   = jsonencode({ Version = "2012-10-17", Statement = local.policies[each.key] })
}
