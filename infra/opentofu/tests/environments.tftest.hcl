# `tofu test`: needs no account, every value that AWS would choose is made up.

mock_provider "aws" {
  mock_data "aws_secretsmanager_secret" {
    defaults = {
      arn        = "arn:aws:secretsmanager:ap-northeast-1:111122223333:secret:ui"
      kms_key_id = "arn:aws:kms:ap-northeast-1:111122223333:key/ui"
    }
  }

  mock_resource "aws_db_instance" {
    # whole: OpenTofu takes no element that lacks an attribute
    defaults = {
      master_user_secret = [{
        secret_arn    = "arn:aws:secretsmanager:ap-northeast-1:111122223333:secret:db"
        secret_status = "active"
        kms_key_id    = "arn:aws:kms:ap-northeast-1:111122223333:key/db"
      }]
    }
  }
}

variables {
  environment           = "dev"
  account_id            = "111122223333"
  availability_zones    = ["ap-northeast-1a", "ap-northeast-1c"]
  vpc_cidr              = "10.20.0.0/16"
  nat_gateways          = 1
  interface_endpoints   = []
  image                 = "lakehouse@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  runs_at_once          = 2
  viewers               = 0
  container_insights    = "enabled"
  allow_deletion        = true
  scanned_bytes_at_most = 10737418240
  log_retention_days    = 14
  alarm_emails          = []
  monthly_budget_usd    = 200
  github_repository     = ""
  settings              = {}

  sizes = {
    webserver = { cpu = 256, memory = 1024 }
    viewer    = { cpu = 256, memory = 1024 }
    daemon    = { cpu = 256, memory = 1024 }
    code      = { cpu = 512, memory = 2048 }
    run       = { cpu = 2048, memory = 8192 }
  }

  database = {
    class       = "db.t4g.micro"
    storage_gb  = 20
    storage_max = 50
    multi_az    = false
    backup_days = 1
  }

  ui = {
    name            = "lakehouse.example.org"
    viewer_name     = "lakehouse-view.example.org"
    certificate_arn = "arn:aws:acm:ap-northeast-1:111122223333:certificate/0"
    allowed_cidrs   = ["10.0.0.0/8"]
  }

  trino = {
    enabled     = false
    image       = ""
    coordinator = { cpu = 1024, memory = 4096 }
    worker      = { cpu = 2048, memory = 8192 }
    workers     = 2
  }
}

run "a_lake_without_trino" {
  assert {
    condition     = output.lake == "s3://lakehouse-dev-lake-111122223333/lake"
    error_message = "The lake has its bucket to itself."
  }

  assert {
    condition     = join(" ", output.services) == "lakehouse-dev-code lakehouse-dev-daemon lakehouse-dev-webserver"
    error_message = "Three services, without viewers."
  }

  assert {
    condition     = length(output.ci_roles) == 0
    error_message = "Without a repository no workflow may do anything."
  }
}

run "viewers_are_a_service_of_their_own" {
  variables {
    viewers = 2
  }

  assert {
    condition     = contains(output.services, "lakehouse-dev-viewer")
    error_message = "Viewers have a webserver that only reads."
  }
}

run "no_other_environment" {
  command         = plan
  expect_failures = [var.environment]

  variables {
    environment = "production"
  }
}

run "no_region_in_the_us" {
  command         = plan
  expect_failures = [var.region]

  variables {
    region = "us-east-1"
  }
}

run "no_image_by_tag" {
  command         = plan
  expect_failures = [var.image]

  variables {
    image = "lakehouse:latest"
  }
}

run "no_ui_for_the_internet" {
  command         = plan
  expect_failures = [var.ui]

  variables {
    ui = {
      name            = "lakehouse.example.org"
      viewer_name     = "lakehouse-view.example.org"
      certificate_arn = "arn:aws:acm:ap-northeast-1:111122223333:certificate/0"
      allowed_cidrs   = ["0.0.0.0/0"]
    }
  }
}

run "no_secret_among_the_settings" {
  command         = plan
  expect_failures = [var.settings]

  variables {
    settings = { UI_TOKEN = "told to everybody" }
  }
}
