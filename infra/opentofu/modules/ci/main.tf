# Workflows without a stored key: GitHub proves by OIDC which repository and which environment a job is of.
# `plan` reads, for any pull request of the repository; `apply` changes, only from the environment with its approval.

locals {
  github = "token.actions.githubusercontent.com"
  proven = {
    plan  = ["repo:${var.repository}:pull_request", "repo:${var.repository}:ref:refs/heads/main"]
    apply = ["repo:${var.repository}:environment:${var.environment}"]
  }
  state = "arn:aws:s3:::${var.state_bucket}"
  ours  = "arn:aws:iam::${var.account_id}:role/${var.name}-*"

  reading = [
    {
      Sid    = "ReadWhatIsThere"
      Effect = "Allow"
      Action = [
        "athena:GetWorkGroup", "athena:ListTagsForResource", "budgets:ViewBudget", "cloudwatch:DescribeAlarms",
        "cloudwatch:ListTagsForResource", "ec2:Describe*", "ecr:DescribeImages", "ecr:DescribeRepositories",
        "ecs:DescribeClusters", "ecs:DescribeServices", "ecs:DescribeTaskDefinition", "ecs:ListTagsForResource",
        "elasticloadbalancing:Describe*", "glue:GetDatabase", "glue:GetTags", "kms:DescribeKey", "kms:GetKeyPolicy",
        "kms:GetKeyRotationStatus", "kms:ListAliases", "kms:ListResourceTags", "logs:DescribeLogGroups",
        "logs:DescribeMetricFilters", "logs:ListTagsForResource", "rds:Describe*", "rds:ListTagsForResource",
        "route53:GetHostedZone", "secretsmanager:DescribeSecret", "secretsmanager:GetResourcePolicy",
        "servicediscovery:Get*", "servicediscovery:ListTagsForResource", "sns:GetSubscriptionAttributes",
        "sns:GetTopicAttributes", "sns:ListTagsForResource", "sts:GetCallerIdentity",
      ]
      Resource = ["*"] # what is described tells no row and no secret
    },
    {
      Sid    = "ReadRoles"
      Effect = "Allow"
      Action = [
        "iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies", "iam:ListInstanceProfilesForRole",
        "iam:ListRolePolicies", "iam:ListRoleTags",
      ]
      Resource = [local.ours]
    },
    {
      Sid    = "ReadBuckets"
      Effect = "Allow"
      Action = [
        "s3:GetBucket*", "s3:GetEncryptionConfiguration", "s3:GetLifecycleConfiguration",
        "s3:GetAccelerateConfiguration", "s3:GetReplicationConfiguration", "s3:ListBucket",
      ]
      Resource = concat([for bucket in var.owned_buckets : "arn:aws:s3:::${bucket}"], [local.state])
    },
    {
      Sid      = "ReadState"
      Effect   = "Allow"
      Action   = ["s3:GetObject"]
      Resource = ["${local.state}/*"]
    },
    {
      Sid      = "OpenState"
      Effect   = "Allow"
      Action   = ["kms:Decrypt"]
      Resource = [var.state_key_arn]
    },
  ]

  changing = [
    {
      Sid      = "KeepState"
      Effect   = "Allow"
      Action   = ["s3:PutObject", "s3:DeleteObject"] # deletes its lock
      Resource = ["${local.state}/*"]
    },
    {
      Sid    = "PushImages"
      Effect = "Allow"
      Action = [
        "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:GetDownloadUrlForLayer",
        "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart",
      ]
      Resource = [for name in var.image_repositories : "arn:aws:ecr:${var.region}:${var.account_id}:repository/${name}"]
    },
    {
      Sid      = "LogInToRegistry"
      Effect   = "Allow"
      Action   = ["ecr:GetAuthorizationToken"]
      Resource = ["*"]
    },
    {
      # names of these are chosen by AWS, so what is held is the region and who asks
      Sid    = "ChangeWhatIsThere"
      Effect = "Allow"
      Action = [
        "athena:CreateWorkGroup", "athena:DeleteWorkGroup", "athena:TagResource", "athena:UpdateWorkGroup",
        "budgets:ModifyBudget",
        "cloudwatch:DeleteAlarms", "cloudwatch:PutMetricAlarm", "cloudwatch:TagResource",
        "ec2:AllocateAddress", "ec2:AssociateRouteTable", "ec2:AttachInternetGateway", "ec2:AuthorizeSecurityGroup*",
        "ec2:Create*", "ec2:DeleteFlowLogs", "ec2:DeleteInternetGateway", "ec2:DeleteNatGateway", "ec2:DeleteRoute",
        "ec2:DeleteRouteTable", "ec2:DeleteSecurityGroup", "ec2:DeleteSubnet", "ec2:DeleteTags", "ec2:DeleteVpc",
        "ec2:DeleteVpcEndpoints", "ec2:DetachInternetGateway", "ec2:DisassociateAddress", "ec2:DisassociateRouteTable",
        "ec2:ModifySecurityGroupRules", "ec2:ModifySubnetAttribute", "ec2:ModifyVpcAttribute", "ec2:ModifyVpcEndpoint",
        "ec2:ReleaseAddress", "ec2:RevokeSecurityGroup*",
        "ecs:CreateCluster", "ecs:CreateService", "ecs:DeleteCluster", "ecs:DeleteService",
        "ecs:DeregisterTaskDefinition",
        "ecs:DescribeTasks", "ecs:PutClusterCapacityProviders", "ecs:RegisterTaskDefinition", "ecs:RunTask",
        "ecs:TagResource",
        "ecs:UpdateCluster", "ecs:UpdateService",
        "elasticloadbalancing:AddTags", "elasticloadbalancing:CreateListener",
        "elasticloadbalancing:CreateLoadBalancer",
        "elasticloadbalancing:CreateRule", "elasticloadbalancing:CreateTargetGroup",
        "elasticloadbalancing:DeleteListener",
        "elasticloadbalancing:DeleteLoadBalancer", "elasticloadbalancing:DeleteRule",
        "elasticloadbalancing:DeleteTargetGroup",
        "elasticloadbalancing:Modify*", "elasticloadbalancing:SetSecurityGroups",
        "glue:CreateDatabase", "glue:DeleteDatabase", "glue:UpdateDatabase",
        "kms:CreateAlias", "kms:CreateGrant", "kms:CreateKey", "kms:Decrypt", "kms:DeleteAlias",
        "kms:EnableKeyRotation",
        "kms:GenerateDataKey", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion", "kms:TagResource",
        "logs:AssociateKmsKey", "logs:CreateLogGroup", "logs:DeleteLogGroup", "logs:DeleteMetricFilter",
        "logs:PutMetricFilter",
        "logs:PutRetentionPolicy", "logs:TagResource",
        "rds:AddTagsToResource", "rds:CreateDBInstance", "rds:CreateDBParameterGroup", "rds:CreateDBSnapshot",
        "rds:CreateDBSubnetGroup", "rds:DeleteDBInstance", "rds:DeleteDBParameterGroup", "rds:DeleteDBSubnetGroup",
        "rds:Modify*",
        "route53:CreateHostedZone", "route53:DeleteHostedZone", "secretsmanager:CreateSecret",
        "secretsmanager:RotateSecret",
        "secretsmanager:TagResource", "servicediscovery:Create*", "servicediscovery:Delete*",
        "servicediscovery:TagResource",
        "servicediscovery:Update*", "sns:CreateTopic", "sns:DeleteTopic", "sns:SetTopicAttributes", "sns:Subscribe",
        "sns:TagResource", "sns:Unsubscribe",
      ]
      Resource  = ["*"]
      Condition = { StringEquals = { "aws:RequestedRegion" = [var.region, "us-east-1"] } } # budgets answer there
    },
    {
      Sid    = "KeepBuckets"
      Effect = "Allow"
      Action = [
        "s3:CreateBucket", "s3:DeleteBucketPolicy", "s3:PutBucket*", "s3:PutEncryptionConfiguration",
        "s3:PutLifecycleConfiguration",
      ]
      Resource = [for bucket in var.owned_buckets : "arn:aws:s3:::${bucket}"]
    },
    {
      Sid    = "KeepRoles"
      Effect = "Allow"
      Action = [
        "iam:CreateRole", "iam:DeleteRole", "iam:DeleteRolePolicy", "iam:PutRolePolicy", "iam:TagRole",
        "iam:UpdateAssumeRolePolicy",
      ]
      Resource = [local.ours]
    },
    {
      Sid      = "GiveRoles"
      Effect   = "Allow"
      Action   = ["iam:PassRole"]
      Resource = [local.ours]
      Condition = {
        StringEquals = { "iam:PassedToService" = ["ecs-tasks.amazonaws.com", "vpc-flow-logs.amazonaws.com"] }
      }
    },
    {
      # an account that never had one of these services has no role of its own for it yet
      Sid      = "LetServicesHaveTheirs"
      Effect   = "Allow"
      Action   = ["iam:CreateServiceLinkedRole"]
      Resource = ["arn:aws:iam::${var.account_id}:role/aws-service-role/*"]
      Condition = {
        StringEquals = {
          "iam:AWSServiceName" = ["ecs.amazonaws.com", "elasticloadbalancing.amazonaws.com", "rds.amazonaws.com"]
        }
      }
    },
    {
      # who changes the environment does not change who may change it
      Sid      = "NotItself"
      Effect   = "Deny"
      Action   = ["iam:*"]
      Resource = ["arn:aws:iam::${var.account_id}:role/${var.name}-ci-*"]
    },
  ]

  roles = { plan = local.reading, apply = concat(local.reading, local.changing) }
}

data "aws_iam_openid_connect_provider" "github" {
  url = "https://${local.github}" # one an account: bootstrap/ makes it
}

resource "aws_iam_role" "this" {
  for_each             = local.proven
  name                 = "${var.name}-ci-${each.key}"
  max_session_duration = 3600

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Federated = data.aws_iam_openid_connect_provider.github.arn }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = {
        StringEquals = { "${local.github}:aud" = "sts.amazonaws.com", "${local.github}:sub" = each.value }
      }
    }]
  })
}

resource "aws_iam_role_policy" "this" {
  for_each = local.proven
  name     = each.key
  role     = aws_iam_role.this[each.key].id
  policy   = jsonencode({ Version = "2012-10-17", Statement = local.roles[each.key] })
}
