bucket = "lakehouse-prod-state-111122223333"
key    = "lakehouse.tfstate"
region = "ap-northeast-1"
